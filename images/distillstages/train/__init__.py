"""The train stage: supervised fine-tuning of the student on the curated traces.

TRL's SFTTrainer over DeepSpeed ZeRO, one worker process per GPU (or CPU share), started on every node by torchrun.
Read it in this order: __main__ (supervisor) → launch (torchrun) → worker (top to bottom, one training run).
"""
