#!/usr/bin/env bash
# Makes deploy/secrets for compose.yaml: new random passwords, and the addresses that hold them. Keeps what is there.
# The files are readable by all because containers read them as another user; the folder is not.
set -euo pipefail
cd "$(dirname "$0")"
mkdir -p -m 0700 secrets

keep() { # name, content
  [ -e "secrets/$1" ] || { printf '%s' "$2" > "secrets/$1" && chmod 0444 "secrets/$1"; }
}
made() { # name: a password, the same at every run
  keep "$1" "$(openssl rand -hex 24)"
  cat "secrets/$1"
}

made postgres_password > /dev/null
keep bacmr_database_url "postgresql://bacmr_server:$(made postgres_server_password)@postgres:5432/bacmr"
keep bacmr_database_owner_url "postgresql://bacmr_migrator:$(made postgres_migrator_password)@postgres:5432/bacmr"
keep bacmr_redis_url "redis://:$(made redis_password)@redis:6379/0"
made minio_password > /dev/null
made grafana_password > /dev/null
made bacmr_bootstrap_admin_password > /dev/null
made bacmr_export_key > /dev/null
# Paste your key here (an empty file means: the local provider answers).
keep openai_api_key ""
chmod 0644 secrets/openai_api_key
echo "deploy/secrets is complete; the administrator's password is in deploy/secrets/bacmr_bootstrap_admin_password"
