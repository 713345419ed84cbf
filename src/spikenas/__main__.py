"""``python -m spikenas``, which is how torchrun starts it."""

from spikenas.cli.main import script

if __name__ == "__main__":
    script()
