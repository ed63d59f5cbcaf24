# The reading room and its API on port 8000, on CPUs, under an unprivileged account.
#
#   docker build -t foveal .                            without torch; serves an exported grader
#   docker build -t foveal --build-arg TORCH=1 .        with torch; also serves a run folder
#   foveal export RUN --out exported                    makes the exported grader, on a machine with torch
#   docker run --read-only --tmpfs /tmp -p 127.0.0.1:8000:8000 -v "$PWD/exported:/model:ro" -v reviews:/reviews \
#     -e FOVEAL_REVIEWS=/reviews/reviews.db -e FOVEAL_TOKEN foveal
#
# FOVEAL_TOKEN and FOVEAL_REVIEWS are set when the container starts; the image holds no secrets. compose.yaml adds
# PostgreSQL.

FROM python:3.12-slim AS build
ARG TORCH=0
ENV PATH=/opt/foveal/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/foveal
WORKDIR /build
# These are the versions of the tests. What changes least comes first, so that a change of code rebuilds little.
COPY constraints.txt ./
COPY docker/requirements.txt docker/
# torch from PyTorch's own index: the packages on PyPI bring gigabytes of CUDA.
RUN pip install --constraint constraints.txt --requirement docker/requirements.txt \
 && if [ "$TORCH" = 1 ]; then \
      pip install --constraint constraints.txt --index-url https://download.pytorch.org/whl/cpu "torch>=2.11" torchvision; \
    fi
COPY pyproject.toml README.md LICENSE ./
COPY foveal foveal
RUN if [ "$TORCH" = 1 ]; then \
      pip install --constraint constraints.txt ".[serve,export,dicom,postgresql]"; \
    else \
      pip install --no-deps .; \
    fi

FROM python:3.12-slim
# A named volume takes its owner from the folder in the image, so that the server can write reviews there.
RUN groupadd --gid 10001 foveal \
 && useradd --uid 10001 --gid foveal --no-create-home --shell /usr/sbin/nologin foveal \
 && install --directory --owner=foveal --group=foveal --mode=0700 /reviews
COPY --from=build /opt/foveal /opt/foveal
# The root file system may be read-only: the server writes only to /tmp and /reviews.
ENV PATH=/opt/foveal/bin:$PATH HOME=/tmp MPLCONFIGDIR=/tmp/matplotlib PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /tmp
USER 10001:10001
EXPOSE 8000
# A model takes a while to load. http.client ignores proxy settings, so this asks the server directly.
HEALTHCHECK --interval=30s --timeout=5s --start-period=90s --retries=3 CMD ["python", "-c", "\
import http.client, sys; \
connection = http.client.HTTPConnection('127.0.0.1', 8000, timeout=4); \
connection.request('GET', '/healthz'); \
sys.exit(connection.getresponse().status != 200)"]
ENTRYPOINT ["foveal"]
CMD ["serve", "/model", "--host", "0.0.0.0"]
