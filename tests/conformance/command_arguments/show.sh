out=$1
shift
for argument; do
  printf '[%s]\n' "$argument" >> "$out"
done
