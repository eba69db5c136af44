"""What a checkpoint keeps when its run folder moves."""

from pathlib import Path

import torch

from switchnorm.training.callbacks.checkpoints import BestCheckpoint


def test_the_best_score_survives_a_move_of_the_run(tmp_path: Path) -> None:
    before = BestCheckpoint(tmp_path / "old", "val_accuracy")
    before.best_model_path = before.kth_best_model_path = str(tmp_path / "old" / "best.ckpt")
    before.best_model_score = before.kth_value = torch.tensor(0.98)
    before.best_k_models = {before.best_model_path: torch.tensor(0.98)}
    after = BestCheckpoint(tmp_path / "new", "val_accuracy")
    after.load_state_dict(before.state_dict())
    assert after.best_model_score == torch.tensor(0.98)
    assert after.best_model_path == str(tmp_path / "new" / "best.ckpt")
    assert after.best_k_models == {after.best_model_path: torch.tensor(0.98)}
