"""The local backend: the same manifest, decide(), coordinator and launcher, with processes for pods."""
