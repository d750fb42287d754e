"""The emulated line of the benchmarks: as long and as wide as asked for, or refused."""

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from bench.harness.result import LineKey
from bench.lab import line as lines
from bench.lab import line_check
from bench.lab.namespaces import inside
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.mount, pytest.mark.timeout(180)]


@pytest.fixture
def name(request: pytest.FixtureRequest) -> Iterator[str]:
    """The beginning of the namespaces' names; nothing of that name is left afterwards."""
    chosen = f"nf{abs(hash(request.node.name)) % 100_000}"
    yield chosen
    left = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True, timeout=20).stdout
    assert chosen not in left


def test_a_line_has_the_round_trip_time_and_the_rate_that_were_asked_for(name: str) -> None:
    def measured() -> tuple[float | None, ...]:
        try:
            with lines.up(LineKey(20, 50), name) as line:
                return line.measured_rtt_ms, line.measured_rate_mbit
        except lines.LineError:
            # A machine whose load changes while a line is calibrated is refused, which is right: again.
            return ()

    rtt_ms, rate_mbit = wait_until(measured, 120, "a line is as it was asked for")
    assert rtt_ms == pytest.approx(20, abs=0.4)
    assert rate_mbit == pytest.approx(50, rel=0.1)


def test_traffic_is_counted_in_both_directions(name: str) -> None:
    with lines.up(LineKey(2, 0), name, check=False) as line:
        before = line.traffic()
        lines._measure(line, "rate", str(1 << 20))
        now = line.traffic()
        assert 1 << 20 < now.down_bytes - before.down_bytes < 1.2 * (1 << 20)
        assert 0 < now.up_bytes - before.up_bytes < 200_000
        assert now.dropped == 0


def test_packets_are_lost_at_the_share_that_was_asked_for(name: str) -> None:
    with lines.up(LineKey(1, 0, 0.02), name, check=False) as line:
        lines._measure(line, "rate", str(8 << 20))
        traffic = line.traffic()
        share = traffic.dropped / (traffic.up_packets + traffic.down_packets)
        assert share == pytest.approx(0.02, abs=0.01)


def test_connections_over_it_use_the_usual_congestion_control(name: str) -> None:
    with lines.up(LineKey(1, 0), name, check=False) as line:
        server = line.far_command(sys.executable, line_check.__file__, "serve", lines.FAR_ADDRESS)
        with subprocess.Popen(server, stdout=subprocess.PIPE) as far:
            assert far.stdout is not None
            assert far.stdout.readline() == b"ready\n"
            connection = inside(line.near, lambda: line_check._connected(lines.FAR_ADDRESS, 0))
            seen = subprocess.run(
                line.far_command("ss", "-tin"), capture_output=True, text=True, check=True, timeout=20
            )
            connection.close()
            far.kill()
    assert re.search(r"\bcubic\b", seen.stdout), seen.stdout


def test_a_line_that_cannot_be_what_was_asked_for_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "_relay_words", lambda key, control: [control, "5000000", "200000", "0", "1"])
    with (
        pytest.raises(lines.LineError, match="asked for 50 Mbit/s, measured 5"),
        lines.up(LineKey(5, 50), name),
    ):
        pass


def test_a_relay_that_ends_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "_relay_words", lambda key, control: [])
    with pytest.raises(lines.LineError, match="does not start"), lines.up(LineKey(5, 50), name):
        pass
