# Short names for the project's commands; each is said once, in `.ci/recipe`. `just` is a convenience: nothing needs it.

# list the recipes
default:
    @just --list --unsorted

# everything that should hold before a push: fmt, lint, test, check, docs, schema, scenarios
ready:
    .ci/recipe ready

# write the formatting
format:
    cargo fmt --all

# the formatting, only looked at
fmt:
    .ci/recipe fmt

# clippy over every target, warnings denied
lint:
    .ci/recipe lint

# all tests; arguments go to cargo: `just test -p cknet-oracle`
test *arguments:
    .ci/recipe test {{ arguments }}

# scenario files without a cluster
check:
    .ci/recipe check

# the scenarios in README.md and docs/
docs:
    .ci/recipe docs

# the main job: every scenario on the reference distribution
scenarios:
    .ci/recipe scenarios

# every sabotage has to turn its expectation red
prove:
    .ci/recipe prove

# the main job as an ordinary user
unprivileged:
    .ci/recipe unprivileged

# the committed schema is that of the types
schema:
    .ci/recipe schema

# write the schema
write-schema:
    UPDATE_SCHEMA=1 cargo test --package cknet --test scenario_suite the_committed_schema_is_current

# benchmarks
bench:
    .ci/recipe bench

# licences, bans, sources, advisories
deny:
    .ci/recipe deny

# all of it, as on a fresh machine
ci:
    .ci/run
