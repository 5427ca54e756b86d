"""`python -m poco.hw.emulator` is `poco-emulator`."""

from .cli import main

if __name__ == "__main__":
    main()
