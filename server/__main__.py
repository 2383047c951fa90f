"""The `bacmr` command."""

import os

# Read when gRPC is imported: readers are started as children, which need nothing of gRPC's and must not wait for it.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

from server.cli.main import main

if __name__ == "__main__":
    main()
