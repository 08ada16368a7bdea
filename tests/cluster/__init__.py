"""Tests of the native cluster itself: they start and remove it, so none may run on this machine meanwhile."""
