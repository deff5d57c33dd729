"""What the log writes to a terminal."""

from dfd.cluster.runtime import LOG, start_logging


def test_names_cannot_command_the_terminal_and_secrets_do_not_reach_it(capsys):
    start_logging(verbose=False)
    LOG.warning("Left out: %s", "a\x1b[2J\nb\x9b1m\u202e.mp4")
    LOG.info("GET %s", "https://ann:hunter2@host/a.mp4?token=hunter2")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].endswith(r"Left out: a\x1b[2J\nb\x9b1m\u202e.mp4")
    assert lines[1].endswith("GET https://***@host/a.mp4?token=***")
