# The HTTP server: `indelible serve`. docs/howto/deploy-server.md says how to run it.
FROM python:3.13-slim AS build

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY src src
# It installs this package, so there is no version to pin.
# hadolint ignore=DL3013
RUN python -m venv --without-pip /opt/indelible \
    && pip --python /opt/indelible/bin/python install --no-cache-dir --no-compile ".[server]"

FROM python:3.13-slim

RUN useradd --system --uid 10001 --no-create-home indelible
COPY --from=build /opt/indelible /opt/indelible
ENV PATH="/opt/indelible/bin:$PATH" \
    PYTHONUNBUFFERED=1 \
    INDELIBLE_HOST=0.0.0.0
USER 10001
EXPOSE 7373
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:7373/health/ready', timeout=4)"]
ENTRYPOINT ["indelible"]
CMD ["serve", "--log-format", "json"]
