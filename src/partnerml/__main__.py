"""``python -m partnerml`` is ``partnerml``."""

from partnerml.cli import main

if __name__ == "__main__":
    main()
