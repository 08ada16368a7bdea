"""`python -m rowlock_operator.kube` starts the operator."""

from rowlock_operator.kube.main import main

if __name__ == "__main__":
    main()
