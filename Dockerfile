# One image for server and sites: docker build -t phoenix-secure:0.1.0 .
# Pin the base by digest for a deployment:
#   docker buildx imagetools inspect python:3.11-slim-bookworm
#   docker build --build-arg BASE=python:3.11-slim-bookworm@sha256:... -t phoenix-secure:0.1.0 .
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
WORKDIR /src
COPY pyproject.toml requirements.lock README.md LICENSE ./
COPY configs configs
COPY protocol protocol
COPY attacks attacks
COPY phoenix_secure phoenix_secure
# The environment is built where it will lie: scripts name their interpreter by its path.
RUN python -m venv /opt/phoenix \
    && /opt/phoenix/bin/python -m pip install --no-cache-dir --require-hashes \
       --requirement requirements.lock \
    && /opt/phoenix/bin/python -m pip install --no-cache-dir --no-deps . \
    && /opt/phoenix/bin/python -m pip check

FROM ${BASE}
# A site's folder is mounted here; everything else may be read-only.
RUN useradd --create-home --uid 10001 phoenix \
    && install -d -o phoenix -g phoenix -m 0700 /srv/phoenix
COPY --from=build /opt/phoenix /opt/phoenix
ENV PATH=/opt/phoenix/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    MPLCONFIGDIR=/tmp/matplotlib \
    XDG_CACHE_HOME=/tmp/cache \
    FLWR_TELEMETRY_ENABLED=0 \
    FLWR_DISABLE_UPDATE_CHECK=1 \
    FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION=1
USER 10001
WORKDIR /srv/phoenix
# The process itself: whether the federation can be reached is `phoenix-secure doctor`'s question.
HEALTHCHECK --interval=1m --timeout=20s --start-period=1m \
    CMD ["python", "-c", "import psutil, sys; sys.exit(not any('phoenix-secure' in ' '.join(p.info['cmdline'] or []) for p in psutil.process_iter(['cmdline']) if p.pid == 1))"]
ENTRYPOINT ["phoenix-secure"]
CMD ["--help"]
