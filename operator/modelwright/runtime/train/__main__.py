"""`python -m modelwright.runtime.train`."""

from modelwright.runtime.train.main import main

if __name__ == "__main__":
    main()
