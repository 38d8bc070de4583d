# MaPhC2F for machines with or without a GPU.
#
#   docker build -t maphc2f .
#   docker run --rm --gpus all --user "$(id -u):$(id -g)" -v "$PWD:/data" maphc2f generate out --count 256
#
# torch comes from the default index, whose Linux build carries CUDA on x86_64 and aarch64; without --gpus it runs
# on the CPU.
FROM python:3.11-slim

RUN apt-get update \
 && apt-get install --yes --no-install-recommends make \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home --uid 1000 maphc2f \
 && install --directory --owner=maphc2f /data /var/cache/numba

ENV PATH=/opt/maphc2f/.venv/bin:$PATH \
    NUMBA_CACHE_DIR=/var/cache/numba \
    PYTHONUNBUFFERED=1

# .dockerignore lets through what the install needs and nothing else, so one layer holds the source.
COPY . /opt/maphc2f
RUN --mount=type=cache,target=/root/.cache/pip make --directory=/opt/maphc2f install

USER maphc2f
WORKDIR /data

# A tiny corpus compiles every kernel now, so that no run has to. The cache is open to all, since `--user` may name
# any account. On another kind of CPU Numba compiles once more.
RUN maphc2f generate /tmp/warm --source builtin --count 16 --size 64 --workers 1 \
 && maphc2f verify /tmp/warm \
 && rm -rf /tmp/warm \
 && chmod --recursive a+rwX /var/cache/numba

ENTRYPOINT ["maphc2f"]
CMD ["--help"]
