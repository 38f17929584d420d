# Short names for the project's commands; each is said once, in `.ci/recipe`. `just` is a convenience: nothing needs it.

# list the recipes
default:
    @just --list --unsorted

# everything that should hold before a push: fmt, lint, test, check, docs, schema, pages, scenarios
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

# every sabotage has to turn its expectation red, every opposite has to be refuted, every section to have a claim
prove:
    .ci/recipe prove

# the main job as an ordinary user
unprivileged:
    .ci/recipe unprivileged

# the committed schema is that of the types
schema:
    .ci/recipe schema

# the committed pages on scenarios are in step
pages:
    .ci/recipe pages

# write the pages on scenarios
write-pages:
    cargo run --quiet --bin cknet -- docs

# a few repetitions of the main job in random order: `just repeat 20`
repeat times="3":
    .ci/recipe repeat {{ times }}

# write the schema
write-schema:
    UPDATE_SCHEMA=1 cargo test --package cknet --test scenario_suite the_committed_schema_is_current

# scenarios on machines of a real provider: lxd or vagrant
machines KIND="lxd":
    .ci/recipe machines {{KIND}}

# the workflows against their schemas and for what is unsafe, and the scripts that they call
workflows:
    .ci/recipe workflows
    .ci/recipe ci-scripts

# real programs in containers beside the model: squid, BIRD, contrast clusters
containers *arguments:
    .ci/recipe containers {{ arguments }}

# one executable without libraries, for machines and for the probe image
static:
    .ci/recipe static

# the probe image: `just image probe.tar`
image output="probe.tar":
    .ci/recipe image {{ output }}

# benchmarks
bench:
    .ci/recipe bench

# licences, bans, sources, advisories
deny:
    .ci/recipe deny

# all of it, as on a fresh machine
ci:
    .ci/run
