from dataclasses import replace

import pytest

from switchnorm.errors import InputError
from switchnorm.studies import demo
from switchnorm.studies.parallel import train_all
from switchnorm.training.run_folder import RunFolder


def test_all_norms_get_the_same_budget_and_tuning(tmp_path):
    configs = [config for _, config in demo.plan(tmp_path)]
    assert sorted({config.model.norm for config in configs}) == ["bn", "gn+ws", "sn", "ssn"]
    assert sorted({config.seed for config in configs}) == [0, 1, 2]
    assert {config.train.samples_per_gpu for config in configs} == {2}
    alike = [replace(config, seed=0, model=replace(config.model, norm="bn")) for config in configs]
    assert all(config == alike[0] for config in alike)


def test_finished_runs_are_kept_interrupted_ones_continued(tmp_path):
    (path, config), *_ = demo.plan(tmp_path)
    config = replace(config, train=replace(config.train, epochs=2, batch_size=256))
    plan = [(path, config), (path.with_name("other"), replace(config, seed=7))]
    results = {}
    train_all(plan, ("test",), lambda path, result: results.update({path: result}))
    assert results.keys() == {path for path, _ in plan}
    run = RunFolder(path)
    finished = run.last.stat().st_mtime_ns
    again = {}
    train_all(plan, ("test",), lambda path, result: again.update({path: result}))
    assert again == results
    assert run.last.stat().st_mtime_ns == finished
    run.update_record(status="running")
    again.clear()
    train_all(plan, ("test",), lambda path, result: again.update({path: result}))
    assert again == results
    assert run.finished()


def test_runs_of_another_configuration_are_not_mixed_in(tmp_path):
    path, config = demo.plan(tmp_path)[0]
    RunFolder.create(path, replace(config, train=replace(config.train, epochs=99)), ())
    with pytest.raises(InputError, match="another configuration"):
        demo.demo(tmp_path)
