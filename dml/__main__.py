"""``python -m dml`` is the command ``dml``."""

from dml.commands import main

if __name__ == "__main__":
    main()
