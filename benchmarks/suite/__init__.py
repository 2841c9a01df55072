"""What the papers' tables share: clips, models, an evaluation of any size that can be killed and resumed."""
