"""One thread for each test process: xdist runs a process for each core, and more threads slow each other down."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
