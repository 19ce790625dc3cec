import numpy as np
import pytest
import torch
from torch import nn

from fedrnn.config import CELLS
from fedrnn.learning.model import CharRNN, parameters_of, set_parameters, shapes
from fedrnn.learning.text import VOCABULARY, encode

NAMES = ["li", "kowalski", "papadopoulos", "x", "o'neill"]


def tensors(names):
    ids, lengths = encode(names)
    return torch.from_numpy(ids), torch.from_numpy(lengths)


def packed_reference(model, ids, lengths):
    """The same network out of torch's own bidirectional GRU on packed sequences."""
    hidden = model.forwards.hidden_size
    both = nn.GRU(model.forwards.input_size, hidden, batch_first=True, bidirectional=True)
    state = {f"{k}": v for k, v in model.forwards.state_dict().items()}
    state |= {f"{k}_reverse": v for k, v in model.backwards.state_dict().items()}
    both.load_state_dict(state)
    packed = nn.utils.rnn.pack_padded_sequence(
        model.inputs(ids), lengths, batch_first=True, enforce_sorted=False
    )
    output, last = both(packed)
    states, _ = nn.utils.rnn.pad_packed_sequence(output, batch_first=True, padding_value=-9)
    return model.output(torch.cat([last[0], last[1], states.amax(1)], 1))


def test_bigru_equals_torchs_packed_sequences_forward_and_backward():
    model = CharRNN(5, hidden=7, embedding=4, dropout=0.0, seed=3)
    ids, lengths = tensors(NAMES)
    ours = model(ids, lengths)
    torch.testing.assert_close(ours, packed_reference(model, ids, lengths))
    ours.square().sum().backward()
    found = [model.embedding.weight.grad.clone(), model.pairs.weight.grad.clone()]
    model.zero_grad()
    packed_reference(model, ids, lengths).square().sum().backward()
    torch.testing.assert_close(found, [model.embedding.weight.grad, model.pairs.weight.grad])


@pytest.mark.parametrize("cell", CELLS)
def test_padding_and_company_do_not_change_a_names_output(cell):
    model = CharRNN(5, cell=cell, hidden=8).eval()
    together = model(*tensors(NAMES))
    for row, name in zip(together, NAMES, strict=True):
        torch.testing.assert_close(row, model(*tensors([name]))[0])
    ids, lengths = tensors(NAMES)
    wider = torch.cat([ids, torch.zeros(len(NAMES), 9, dtype=torch.int64)], 1)
    torch.testing.assert_close(together, model(wider, lengths))


def test_a_character_is_read_beside_its_pair_with_the_one_before():
    model = CharRNN(4, embedding=5)
    ids, _ = tensors(["ba"])
    b, a = ids[0].tolist()
    letters, pairs = model.embedding.weight, model.pairs.weight
    first, second = model.inputs(ids)[0]
    assert torch.equal(first, torch.cat([letters[b], pairs[b]]))  # nothing, which is id 0, before
    assert torch.equal(second, torch.cat([letters[a], pairs[b * VOCABULARY + a]]))
    assert pairs.shape == (VOCABULARY**2, 3)


def test_the_default_network_of_18_labels_is_at_most_350_kilobytes():
    assert parameters_of(CharRNN(18)).nbytes <= 350_000


def test_a_seed_gives_the_same_parameters_and_leaves_the_global_generator_alone():
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    one, two, other = (parameters_of(CharRNN(4, seed=s)) for s in (5, 5, 6))
    assert torch.rand(1) == expected
    assert (one == two).all()
    assert (one != other).any()


def test_parameters_go_through_the_flat_vector_unchanged():
    model, other = CharRNN(4, cell="lstm", seed=0), CharRNN(4, cell="lstm", seed=1)
    flat = parameters_of(model)
    assert flat.dtype == np.float32
    assert len(flat) == sum(int(np.prod(shape)) for shape in shapes(model).values())
    set_parameters(other, flat)
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
    flat[:] = 0  # a copy: the model keeps its own
    assert parameters_of(model).any()


def test_a_vector_of_another_length_is_refused():
    with pytest.raises(ValueError, match="arrived"):
        set_parameters(CharRNN(4), np.zeros(3, dtype=np.float32))


def test_an_unknown_cell_is_refused():
    with pytest.raises(ValueError, match="use one of"):
        CharRNN(4, cell="qrnn")
