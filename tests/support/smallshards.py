"""`python -m tests.support.smallshards BYTES CACHE STORE ...`: the pack command, with shards of at most BYTES."""

import sys

from tusz_cache import cli, pack
from tusz_cache.packing import splitting

if __name__ == "__main__":
    splitting.SHARD_BYTES = int(sys.argv.pop(1))
    cli.main(pack.main)
