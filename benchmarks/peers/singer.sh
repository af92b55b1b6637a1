#!/bin/sh
# A Singer pipeline: the tap into meltanolabs-target-postgres, which upserts by COPY. Its state is kept in the working
# directory. Argument 1: the folder of the programs; argument 2: the tap.
set -e
printf '{"sqlalchemy_url": "%s", "use_copy": true, "load_method": "upsert", "default_target_schema": "peer"}' \
  "$(echo "$DATABASE_URL" | sed 's#^postgresql:#postgresql+psycopg:#')" >target.json
echo '{}' >tap.json
state=
[ -s state.json ] && state='--state state.json'
# shellcheck disable=SC2086 # no state: no argument
"$1/python" "$2" --config tap.json $state | "$1/target-postgres" --config target.json >states.jsonl
[ ! -s states.jsonl ] || tail -n 1 states.jsonl >state.json
