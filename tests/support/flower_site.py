"""A scripted site as processes: keeps a SuperNode running and answers its tasks right here."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

from phoenix_secure.federation.engines.flower_address import FlowerAddress
from phoenix_secure.federation.engines.flower_site import serve_flower
from scripted_sites import carry_out


def keep_running(command: list[str]) -> None:
    while True:
        subprocess.call(command)
        time.sleep(1)


if __name__ == "__main__":
    address, secret_file, wake, *supernode = sys.argv[1:]
    threading.Thread(target=keep_running, args=(supernode,), daemon=True).start()
    where = FlowerAddress(address=address, secret=Path(secret_file).read_bytes())
    serve_flower(where, handle=carry_out, stop=threading.Event(), wake=Path(wake))
