"""`python -m modelwright.runtime.train`."""

from modelwright.runtime.imports import importing

with importing():
    from modelwright.runtime.train.main import main

if __name__ == "__main__":
    main()
