"""From pictures to answers, a module for each task: what a `TaskSpec` names as `answering`. Needs no torch."""
