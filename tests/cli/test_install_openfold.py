"""The command; what it does is tested in tests/upstream/test_install.py."""

from typer.testing import CliRunner

from openfoldpp.cli.main import app


def test_where_an_openfold_is_there_it_says_so():
    result = CliRunner().invoke(app, ["install-openfold"])
    assert result.exit_code == 0
    assert "is already there" in result.stdout


def test_a_refusal_is_one_message_and_exit_code_1(tmp_path):
    sdist = tmp_path / "openfold-0.0.1.tar.gz"
    sdist.touch()
    result = CliRunner().invoke(app, ["install-openfold", "--force", "--sdist", str(sdist)])
    assert result.exit_code == 1
    assert result.stderr.startswith(f"openfoldpp install-openfold: {sdist}: sha256 is e3b0c442")
    constraint = tmp_path / "absent.txt"
    result = CliRunner().invoke(app, ["install-openfold", "--force", "--constraint", str(constraint)])
    assert result.stderr == f"openfoldpp install-openfold: --constraint = {constraint}: no such file.\n"
