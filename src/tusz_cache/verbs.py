"""From a verb on the command line to the module of its name."""

import importlib
import sys
from collections.abc import Mapping, Sequence


def dispatch(package: str, verbs: Mapping[str, str], arguments: Sequence[str]) -> int:
    """Run the module of `package` that the first argument names with the rest. Returns the exit status.

    `verbs` says what each of them does.
    """
    if not arguments or arguments[0] not in verbs:
        asked = bool(arguments) and arguments[0] in {"-h", "--help"}
        lines = [f"  {verb:<8} {what}" for verb, what in verbs.items()]
        usage = f"usage: {package.replace('_', '-')} VERB …\n"
        print(usage, *lines, sep="\n", file=sys.stdout if asked else sys.stderr)
        return 0 if asked else 2
    status: int = importlib.import_module(f"{package}.{arguments[0]}").main(arguments[1:])
    return status
