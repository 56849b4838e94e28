# SPDX-License-Identifier: Apache-2.0
"""Python functions as models of tidemill, and jobs from Python.

    import tidemill

    @tidemill.model
    def predict(records):
        return [len(record["text"]) for record in records]

    if __name__ == "__main__":
        predict.serve()

in handler.py is a model: tidemill run --model exec:"python3 handler.py" ...
"""

from ._handler import Error, Model, model
from ._jobs import (
    Client,
    Interrupted,
    JobError,
    JobFailed,
    RequestError,
    Summary,
    run,
)

__all__ = [
    "Client", "Error", "Interrupted", "JobError", "JobFailed", "Model", "RequestError", "Summary",
    "model", "run",
]
__version__ = "0.1.0"
