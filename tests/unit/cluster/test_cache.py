"""The cache knows the newest version of each object, by run, and never lets a label reach into another namespace."""

from __future__ import annotations

from distillrun.cluster.cache import GRAVES, Cache
from distillrun.plan.model import Run, Scrape
from tests.unit.builders import T0
from tests.unit.cluster import bodies

KEY = ("team", "s1")


def filled() -> tuple[Cache, Run]:
    cache = Cache()
    cache.upsert("DistillRun", bodies.run())
    run = cache.run(KEY)
    assert run is not None
    return cache, run


def test_a_childs_event_leads_to_its_run() -> None:
    cache, run = filled()
    assert cache.upsert("Pod", bodies.pod()) == KEY
    assert cache.upsert("Job", bodies.job()) == KEY
    seen = cache.observe(run)
    assert (set(seen.pods), set(seen.jobs)) == ({"s1-train-0"}, {"s1-train"})


def test_a_child_that_is_seen_before_its_run_is_found_once_the_run_is_known() -> None:
    cache = Cache()
    assert cache.upsert("Job", bodies.job()) is None
    assert cache.upsert("DistillRun", bodies.run()) == KEY
    run = cache.run(KEY)
    assert run is not None
    assert "s1-train" in cache.observe(run).jobs


def test_a_label_does_not_reach_into_another_namespace() -> None:
    cache, run = filled()
    forged = bodies.pod("forged")
    forged["metadata"]["namespace"] = "elsewhere"
    assert cache.upsert("Pod", forged) is None
    assert cache.observe(run).pods == {}


def test_an_older_version_does_not_replace_a_newer_one() -> None:
    cache, run = filled()
    cache.upsert("Job", bodies.job(version=7, succeeded=1))
    cache.upsert("Job", bodies.job(version=5, succeeded=0))
    assert cache.observe(run).jobs["s1-train"].succeeded == 1


def test_a_late_answer_does_not_bring_a_deleted_object_back() -> None:
    cache, run = filled()
    cache.upsert("Job", bodies.job(version=5))
    assert cache.remove("Job", bodies.job(version=8)) == KEY
    cache.upsert("Job", bodies.job(version=6))
    assert cache.observe(run).jobs == {}


def test_an_object_that_gets_its_label_back_after_losing_it_is_seen_again() -> None:
    cache, run = filled()
    cache.upsert("Job", bodies.job(version=5))
    cache.remove("Job", bodies.job(version=8))
    cache.upsert("Job", bodies.job(version=9))
    assert "s1-train" in cache.observe(run).jobs


def test_the_deletion_of_a_namesake_does_not_touch_its_successor() -> None:
    cache, _ = filled()
    old, new = bodies.job(version=5), bodies.job(version=9)
    new["metadata"]["uid"] = "uid-new"
    cache.upsert("Job", old)
    cache.upsert("Job", new)
    cache.remove("Job", bodies.job(version=10))
    entry = cache.get(("Job", "team", "s1-train"))
    assert entry is not None
    assert entry.uid == "uid-new"


def test_a_run_that_is_deleted_and_made_anew_starts_without_the_old_ones_children() -> None:
    cache, _ = filled()
    cache.upsert("Job", bodies.job())
    cache.upsert("DistillRun", bodies.run(version=9, uid="second"))
    run = cache.run(KEY)
    assert run is not None
    assert run.uid == "second"
    assert cache.observe(run).jobs == {}
    assert cache.run_keys() == [KEY]


def test_what_we_deleted_ourselves_is_seen_as_going_at_once() -> None:
    cache, run = filled()
    cache.upsert("Job", bodies.job())
    cache.mark_deleting(("Job", "team", "s1-train"), "uid-s1-train")
    assert cache.observe(run).jobs["s1-train"].deleting


def test_a_list_drops_only_what_is_older_than_itself() -> None:
    cache, run = filled()
    cache.upsert("Job", bodies.job(version=5))
    assert cache.drop(("Job", "team", "s1-train"), "uid-s1-train", as_of=4) is None
    assert cache.drop(("Job", "team", "s1-train"), "uid-s1-train", as_of=5) == KEY
    assert cache.observe(run).jobs == {}


def test_runs_with_waiting_or_running_pods_are_counted() -> None:
    cache, _ = filled()
    assert cache.running_runs == 0
    cache.upsert("Pod", bodies.pod(version=2))
    assert cache.running_runs == 1
    cache.upsert("Pod", bodies.pod(version=3, phase="Succeeded"))
    assert cache.running_runs == 0


def test_a_pods_numbers_live_as_long_as_the_pod() -> None:
    cache, run = filled()
    cache.upsert("Pod", bodies.pod(version=2))
    cache.put_scrape("s1-train-0", "team", Scrape("uid-s1-train-0", T0, {"loss": 0.5}))
    cache.upsert("Pod", bodies.pod(version=3))
    assert cache.observe(run).scrapes["s1-train-0"].numbers == {"loss": 0.5}
    cache.remove("Pod", bodies.pod(version=4))
    cache.put_scrape("s1-train-0", "team", Scrape("uid-s1-train-0", T0, {"loss": 0.4}))
    assert cache.observe(run).scrapes == {}


def test_the_memory_of_deleted_objects_is_bounded() -> None:
    cache = Cache()
    for number in range(GRAVES + 10):
        cache.remove("Job", bodies.job(f"job-{number}"))
    assert len(cache._graves) == GRAVES


def test_a_run_comes_out_of_the_cache_as_it_went_in_and_nobody_can_change_it_there() -> None:
    cache = Cache()
    spec = {"seed": 1, "teacher": "ü", "train": {"betas": ["0.9", "0.95"], "maxSteps": None}}
    cache.upsert("DistillRun", bodies.run(spec=spec, status={"phase": "Training", "stages": [{"name": "curate"}]}))
    first = cache.run(KEY)
    assert first is not None
    assert (first.spec, first.status["stages"], first.uid) == (spec, [{"name": "curate"}], "uid-s1")
    first.status["stages"].append("nonsense")
    again = cache.run(KEY)
    assert again is not None
    assert again.status["stages"] == [{"name": "curate"}]
    assert [run.status for run in cache.runs()] == [again.status]


def test_only_runs_with_a_pod_that_waits_or_runs_are_active() -> None:
    cache, _ = filled()
    assert list(cache.active_runs()) == []
    cache.upsert("Pod", bodies.pod())
    assert [run.name for run in cache.active_runs()] == ["s1"]
    cache.upsert("Pod", bodies.pod(version=2, phase="Succeeded"))
    assert list(cache.active_runs()) == []


def test_what_the_cache_knows_already_is_no_news() -> None:
    cache, _ = filled()
    assert not cache.has_seen("Job", bodies.job(version=5))
    cache.upsert("Job", bodies.job(version=5))
    assert cache.has_seen("Job", bodies.job(version=5))
    assert cache.has_seen("Job", bodies.job(version=4))
    assert not cache.has_seen("Job", bodies.job(version=6))


def test_objects_without_a_version_that_can_be_compared_are_always_news() -> None:
    cache, _ = filled()
    cache.upsert("Job", bodies.job(version=0))
    assert not cache.has_seen("Job", bodies.job(version=0))
