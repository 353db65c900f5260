"""Tell whether the aggregator or the node in a container works: `python health.py aggregator HOME`.

Exit code 0 is well, 1 is not, with the reason on standard output. `zk0-aggregator status` and `zk0-node
status` tell more, but import for three CPU seconds each time, which is too much for a question asked every
minute. Needs the standard library only.
"""

from __future__ import annotations

import json
import ssl
import sys
import urllib.request
from pathlib import Path

TIMEOUT_S = 5.0
_OWN_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 (compared, not bound)


def problem_of_aggregator(home: Path) -> str | None:
    """Return why the aggregator at `home` does not serve nodes, None if it does."""
    settings = json.loads((home / "running.json").read_text(encoding="utf-8"))
    host = _OWN_ADDRESS.get(settings["host"], settings["host"])
    scheme = "http" if settings["insecure"] else "https"
    context = None if settings["insecure"] else ssl.create_default_context(cafile=home / "tls" / "ca.crt")
    url = f"{scheme}://{host}:{settings['services_port']}/base/"
    with urllib.request.urlopen(url, timeout=TIMEOUT_S, context=context) as answer:  # noqa: S310 (see scheme)
        return None if answer.status == 200 else f"{url} answers {answer.status}"


def problem_of_node(home: Path) -> str | None:
    """Return why the node at `home` gets no work, None if it is connected."""
    status = json.loads((home / "status.json").read_text(encoding="utf-8"))
    return None if status.get("connected") else "not connected to the aggregator"


def main() -> int:
    """Print what is wrong, if anything is, and return the exit code."""
    role, home = sys.argv[1:]
    check = {"aggregator": problem_of_aggregator, "node": problem_of_node}[role]
    try:
        problem = check(Path(home))
    except (OSError, ValueError, KeyError) as error:
        problem = str(error) or type(error).__name__
    sys.stdout.write(f"{problem or 'well'}\n")
    return int(problem is not None)


if __name__ == "__main__":
    sys.exit(main())
