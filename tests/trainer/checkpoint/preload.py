"""What every rank needs, imported once by the server they are forked from."""

import tests.trainer.checkpoint.builders
import tests.trainer.checkpoint.crew  # noqa: F401
