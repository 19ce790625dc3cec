"""The virtual environment: whose it is, and what it runs."""

from testinfra.host import Host

PYTHON = "/opt/fedrnn/venv/bin/python"


def test_version(host: Host) -> None:
    told = host.check_output(f"{PYTHON} -c 'import sys; print(*sys.version_info[:2])'")
    assert tuple(map(int, told.split())) >= (3, 11)


def test_environment_is_the_one_we_think(host: Host) -> None:
    assert host.check_output(f"{PYTHON} -c 'import sys; print(sys.prefix)'") == "/opt/fedrnn/venv"


def test_only_root_can_change_it(host: Host) -> None:
    found = host.check_output("sudo find /opt/fedrnn/venv ! -user root -o ! -type l -perm /022")
    assert found == ""
