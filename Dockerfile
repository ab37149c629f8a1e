# syntax=docker/dockerfile:1

# The program, on a small Debian. It keeps what it has to keep in /data, and runs as a user without rights.
#
#   docker build --tag tallyhook .
#   docker run --publish 127.0.0.1:8080:8080 --volume tallyhook:/data --env GITHUB_WEBHOOK_SECRET tallyhook
#
# docker-compose.yml runs it in many processes, with PostgreSQL and RabbitMQ.

# At least `rust-version` of Cargo.toml. The image brings the C compiler that SQLite, zstd and AWS-LC need.
FROM rust:1.95-slim-bookworm AS build
WORKDIR /build

# First the dependencies, on a program that does nothing: this layer stays until Cargo.toml or Cargo.lock change. Tests
# and benches are taken out of the manifest, since their files are not here.
COPY Cargo.toml Cargo.lock build.rs ./
RUN sed --in-place '/^\[\[\(test\|bench\)\]\]/,/^$/d' Cargo.toml \
    && mkdir src \
    && echo 'fn main() {}' >src/main.rs \
    && touch src/lib.rs \
    && cargo build --locked --release

# Cargo goes by times, and these files are older than those they replace.
COPY migrations migrations
COPY fixtures fixtures
COPY src src
RUN touch src/lib.rs src/main.rs \
    && cargo build --locked --release

FROM debian:bookworm-slim
LABEL org.opencontainers.image.title="Tallyhook" \
    org.opencontainers.image.description="Self-hosted GitHub event processor: signed webhooks in, explained cycle times out" \
    org.opencontainers.image.source="https://github.com/tallyhook/tallyhook" \
    org.opencontainers.image.licenses="Apache-2.0"

# Whom to trust in TLS to a database or broker elsewhere.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /build/target/release/tallyhook /usr/local/bin/tallyhook

# By number, so that Kubernetes can see that it is not root.
RUN install --directory --owner=10001 --group=10001 --mode=700 /data
USER 10001:10001
WORKDIR /data
VOLUME /data

# Loopback would be the container's own.
ENV DATABASE_URL=sqlite:///data/tallyhook.db \
    TALLYHOOK_LISTEN=0.0.0.0:8080
EXPOSE 8080
STOPSIGNAL SIGTERM

# Bash opens the connection itself, so that the image needs no HTTP client.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["bash", "-c", "\
    exec 3<>\"/dev/tcp/127.0.0.1/${TALLYHOOK_LISTEN##*:}\" \
    && printf 'GET /readyz HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n' >&3 \
    && read -r _ status _ <&3 \
    && [[ $status == 200 ]]"]

ENTRYPOINT ["tallyhook"]
CMD ["serve"]
