"""Builders of the objects a job consists of: plain values in, plain dicts out.

Nothing here talks to anything. The kube room applies what these functions return, and a test can read an
object as a person reads a manifest.
"""
