import sys

# diffusers imports transformers where it is installed, though nothing here needs it to: most of a second in each job.
# Python takes None for "not installed"; `networks.frozen_text` alone lifts it.
sys.modules.setdefault("transformers", None)  # type: ignore[arg-type]
