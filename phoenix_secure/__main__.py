"""``python -m phoenix_secure`` is ``phoenix-secure``."""

from phoenix_secure.cli import main

if __name__ == "__main__":
    main()
