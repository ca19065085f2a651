"""`python -m fkdoctor`: the command line, from a checkout or an installation."""

from fkdoctor.cli import main

if __name__ == "__main__":
    main()
