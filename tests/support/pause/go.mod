module rowlock.dev/tests/support/pause

go 1.26.0
