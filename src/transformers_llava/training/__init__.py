"""Train the two stages of LLaVA on TRL's `SFTTrainer`: a recipe in, a checkpoint with its run record out."""
