# The README's command on a CPU:
#   docker build -t fhn_jax .
#   docker run --rm -v fhn_jax_runs:/app/runs fhn_jax
# Own data, read only: -v "$PWD/data/polyvore:/app/data/polyvore:ro"
FROM python:3.11.13-slim-bookworm

ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    NUMBA_CACHE_DIR=/app/compiled
WORKDIR /app

# The requirements first: they change less often than the program.
COPY requirements.txt .
RUN sed '/^-e /d' requirements.txt \
    | python -m pip install --no-cache-dir -r /dev/stdin

COPY pyproject.toml README.md LICENSE ./
COPY configs configs
COPY data_tools data_tools
COPY fhn_jax fhn_jax
RUN python -m pip install --no-cache-dir --no-deps -e .

# For processors like the one that builds; others compile when they start.
RUN fhn-jax compile

# Only what a run writes belongs to the user that runs it.
RUN useradd --create-home --uid 1000 fhn \
    && mkdir data runs \
    && chown -R fhn:fhn compiled data runs
USER fhn

ENTRYPOINT ["fhn-jax"]
CMD ["--config", "vse_t3"]
