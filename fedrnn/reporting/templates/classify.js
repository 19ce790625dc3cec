// What language a name is from, by the model of this run, in the page itself: the same sums as
// fedrnn/learning/model.py does with torch, and the same spelling as fedrnn/learning/text.py.
"use strict";

const SPACES = /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/u;

class Classifier {
  constructor(told) {
    const bytes = Uint8Array.from(atob(told.weights), (c) => c.charCodeAt(0));
    const flat = new Float32Array(bytes.buffer);
    this.weights = {};
    let start = 0;
    for (const [name, shape] of told.shapes) {
      const size = shape.reduce((product, side) => product * side, 1);
      this.weights[name] = { values: flat.subarray(start, start + size), columns: shape.at(-1) };
      start += size;
    }
    this.labels = told.labels;
    this.cell = told.cell;
    this.hidden = told.hidden;
    this.alphabet = told.alphabet;
    this.longest = told.longest;
    this.scripts = new Map();
    for (const [first, texts] of told.scripts)
      texts.split("|").forEach((text, n) => this.scripts.set(String.fromCodePoint(first + n), text));
  }

  // The name as the network sees it, and the letters of scripts that this page cannot read.
  spell(name) {
    const words = Array.from(name).slice(0, 50 * this.longest).join("").split(SPACES);
    const unknown = new Set();
    let text = "";
    for (const letter of words.filter(Boolean).join(" ")) {
      if (/[\p{S}\p{C}]/u.test(letter)) continue;
      if (letter < "\x80") text += letter.toLowerCase();
      else if (this.scripts.has(letter)) text += this.scripts.get(letter);
      else unknown.add(letter);
    }
    text = text.replace(/[^a-z' -]/g, "").split(/ +/).filter(Boolean).join(" ");
    text = text.replace(/^[ '-]+|[ '-]+$/g, "").slice(0, this.longest).replace(/[ '-]+$/, "");
    return { text, unknown: [...unknown] };
  }

  // All labels with their probability, the likeliest first.
  predict(name) {
    const ids = Array.from(this.spell(name).text, (c) => this.alphabet.indexOf(c) + 1);
    const inputs = this.inputs(ids.length ? ids : [0]);
    const runs = [this.states("forwards", this.cell, inputs)];
    if (this.cell === "bigru") runs.push(this.states("backwards", "gru", inputs.toReversed()));
    const last = runs.flatMap((states) => [...states.at(-1)]);
    const most = runs.flatMap((states) =>
      Array.from(states[0], (_, k) => Math.max(...states.map((state) => state[k]))));
    const logits = this.times("output.weight", [...last, ...most], "output.bias");
    const highest = Math.max(...logits);
    const powers = Array.from(logits, (logit) => Math.exp(logit - highest));
    const sum = powers.reduce((total, power) => total + power, 0);
    return this.labels
      .map((label, n) => ({ label, probability: powers[n] / sum }))
      .sort((a, b) => b.probability - a.probability);
  }

  // Each letter's vector beside that of its pair with the letter before.
  inputs(ids) {
    const row = (name, n) => {
      const { values, columns } = this.weights[name];
      return values.subarray(n * columns, (n + 1) * columns);
    };
    return ids.map((id, n) => [
      ...row("embedding.weight", id),
      ...row("pairs.weight", (n ? ids[n - 1] : 0) * (this.alphabet.length + 1) + id),
    ]);
  }

  // matrix · vector + bias
  times(matrix, vector, bias) {
    const { values, columns } = this.weights[matrix];
    const result = Float64Array.from(this.weights[bias].values);
    for (let row = 0; row < result.length; row++)
      for (let column = 0; column < columns; column++)
        result[row] += values[row * columns + column] * vector[column];
    return result;
  }

  // The states of a recurrent layer, one per input; gates in torch's order.
  states(layer, cell, inputs) {
    const size = this.hidden;
    const sigmoid = (x) => 1 / (1 + Math.exp(-x));
    let state = new Float64Array(size);
    let memory = new Float64Array(size);
    return inputs.map((input) => {
      const a = this.times(`${layer}.weight_ih_l0`, input, `${layer}.bias_ih_l0`);
      const b = this.times(`${layer}.weight_hh_l0`, state, `${layer}.bias_hh_l0`);
      const gate = (n, k) => a[n * size + k] + b[n * size + k];
      const before = state;
      if (cell === "lstm") {
        memory = memory.map((m, k) =>
          sigmoid(gate(1, k)) * m + sigmoid(gate(0, k)) * Math.tanh(gate(2, k)));
        state = memory.map((m, k) => sigmoid(gate(3, k)) * Math.tanh(m));
      } else if (cell === "rnn") {
        state = before.map((_, k) => Math.tanh(gate(0, k)));
      } else {
        state = before.map((old, k) => {
          const update = sigmoid(gate(1, k));
          const fresh = Math.tanh(a[2 * size + k] + sigmoid(gate(0, k)) * b[2 * size + k]);
          return (1 - update) * fresh + update * old;
        });
      }
      return state;
    });
  }
}

function show(classifier, name, list, note) {
  const { text, unknown } = classifier.spell(name);
  const answers = text ? classifier.predict(name).slice(0, 3) : [];
  list.replaceChildren(...answers.map(({ label, probability }) => {
    const item = document.createElement("li");
    const told = document.createElement("span");
    const percent = document.createElement("b");
    const bar = document.createElement("i");
    told.textContent = label;
    percent.textContent = `${(100 * probability).toFixed(0)} %`;
    bar.style.width = `${100 * probability}%`;
    item.append(told, percent, bar);
    return item;
  }));
  if (unknown.length)
    note.textContent = `This page cannot read ${unknown.join(" ")}: python -m fedrnn.predict can.`;
  else if (name.trim() && !text) note.textContent = "There is no letter in it.";
  else note.textContent = text && text !== name.trim().toLowerCase() ? `read as “${text}”` : "";
}

document.addEventListener("DOMContentLoaded", () => {
  const told = document.getElementById("model");
  if (!told) return;
  const box = document.getElementById("name");
  const classifier = new Classifier(JSON.parse(told.textContent));
  const update = () =>
    show(classifier, box.value, document.getElementById("answers"), document.getElementById("note"));
  for (const button of document.querySelectorAll("button[data-name]"))
    button.addEventListener("click", () => { box.value = button.dataset.name; update(); });
  box.addEventListener("input", update);
  window.fedrnn = classifier; // for whoever is curious, in the console
  update();
});
