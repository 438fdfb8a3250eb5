# textune in a container: it serves by default, and trains, predicts and checks with the same words as elsewhere.
#
#   docker build --tag textune .
#   docker run --publish 8080:8080 --volume "$PWD/runs/first:/model:ro" textune
#   docker run --volume "$PWD:/work" textune train config.toml --run runs/first
#
# PyTorch comes from the index that pip knows. For one without CUDA, which is several gigabytes smaller, name the index that
# has it: --build-arg PIP_EXTRA_INDEX_URL=...
ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS build
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY native native
COPY textune textune
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

# What the package needs, from its own file: a layer that stays while only the code changes.
FROM python:${PYTHON}-slim AS requirements
WORKDIR /source
COPY pyproject.toml constraints.txt ./
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ARG EXTRAS="serve"
RUN python -c 'import sys, tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
extras = project["optional-dependencies"]; \
print(*project["dependencies"], *(line for name in sys.argv[1:] for line in extras[name]), sep="\n")' \
    ${EXTRAS} > requirements.txt

FROM python:${PYTHON}-slim
ARG PIP_EXTRA_INDEX_URL=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1
COPY --from=requirements /source/requirements.txt /source/constraints.txt /tmp/
RUN pip install --constraint /tmp/constraints.txt --requirement /tmp/requirements.txt
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels pip install --no-deps /wheels/*.whl

# The token cache and downloaded backbones lie in the user's home; mount a volume there to keep them.
RUN useradd --create-home --uid 10001 textune && mkdir /work && chown textune /work
USER 10001
WORKDIR /work
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/health', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["textune"]
CMD ["serve", "/model", "--host", "0.0.0.0", "--port", "8080"]
