# The probe in Bash: `probe.sh NAME=VALUE... CASE...` does each case and prints what it saw, one line of JSON each. What
# the shell cannot say itself is said by the tools that scripts use.
exec 2>&1
declare -A arg
for word in "$@"; do [[ $word == *=* ]] && arg[${word%%=*}]=${word#*=}; done
dir=${arg[dir]} near=${arg[local]}

saw() {
    local value=${2//\\/\\\\}
    value=${value//\"/\\\"}
    value=${value//$'\n'/\\n}
    value=${value//$'\t'/\\t}
    line+=", \"$1\": \"$value\""
}
# What a command says and how it ends, without the shell's own place in its complaint.
does() { local key=$1 said; shift; said=$("$@" 2>&1); saw "$key" "$? ${said##*: line *: }"; }
read_file() { local text; text=$(< "$1") || return; echo "$text"; }
climbing=../../../../../../../..

case_1() { does content read_file "$dir/file"; exec 7< "$dir/file"; read -r -u 7 text; exec 7<&-; saw by-descriptor "$text"; }
case_5() {
    does one read_file "$dir/sub/../file"; does two read_file "$dir/sub/deep/../../file"
    does slashes read_file "$dir/./sub//deep/./leaf"; does none read_file "$dir/none/../file"
}
case_6() { does content read_file "$dir/$climbing$near/near"; [[ -r $dir/$climbing$near/near ]]; saw readable $?; does cat cat "$dir/$climbing$near/near"; }
case_7() {
    does content read_file "$dir/link"; does text readlink "$dir/link"; does none readlink "$dir/file"
    [[ -L $dir/link ]]; saw link $?; does below read_file "$dir/dirlink/deep/leaf"
}
case_8() { does in-the-volume read_file "$dir/abslink"; does out-of-it read_file "$dir/outlink"; does dangling read_file "$dir/dangling"; }
case_10() { local all=("$dir"/tree/*); saw glob "${all[*]}"; does realpath realpath "$dir/dirlink/../link"; shopt -s globstar; all=("$dir"/tree/**/*.txt); saw globstar "${all[*]}"; }
case_14() { does stat stat -c '%a %s %h %F %Y' "$dir/file" "$dir/sub"; [[ $dir/file -ef $dir/link ]]; saw same $?; [[ $dir/file -nt $dir/none ]]; saw newer $?; }
case_15() {
    local copy=$near/copy-${arg[name]}
    does cp cp -r "$dir/tree" "$copy"; does diff diff -r "$dir/tree" "$copy"; does ls ls -lgo --time-style=+ "$dir/tree"
    does tar tar -C "$dir" -cf /dev/null tree; does find find "$dir/tree" -name a.txt -size -2; does grep grep -rlc d.txt "$dir/tree"; rm -rf "$copy"
}
case_17() { local all=("$dir"/many/*); saw first "${#all[@]} ${all[0]} ${all[-1]}"; all=("$dir"/many/*); saw second "${#all[@]}"; does ls sh -c "ls -f $dir/many | wc -l"; }
case_18() {
    local long; printf -v long '%0299d' 0
    does ENOENT read_file "$dir/none"; does ENOTDIR read_file "$dir/file/x"; does ELOOP read_file "$dir/loop"
    does ENAMETOOLONG read_file "$dir/$long"; does EACCES read_file "$dir/closed"; does EISDIR write "$dir/sub"
}
write() { echo "$2" > "$1"; }
append() { echo "$2" >> "$1"; }
new() (set -o noclobber; echo "$2" > "$1")
case_19() {
    local name=${arg[ro]}/banner.txt
    does write write "$name" x; does append append "$name" x; does new write "${arg[ro]}/new" x; does mkdir mkdir "${arg[ro]}/new"
    does rm rm -f "$name"; does touch touch "$name"; [[ -w $name ]]; saw writable $?; does content read_file "$name"
}
case_20() {
    local name=$dir/w-${arg[name]} before; before=$(umask); umask 027
    does new new "$name" "first line"; does again new "$name" x; does append append "$name" second; does both read_file "$name"
    does mode stat -c '%a %s' "$name"; does write write "$name" cut; does cut read_file "$name"; does rm rm "$name"; does gone read_file "$name"
    umask "$before"
}
case_22() {
    local folder=$dir/d-${arg[name]}
    does mkdir mkdir -m 750 "$folder"; does new write "$folder/one" x; does ln ln "$folder/one" "$folder/two"; does symlink ln -s one "$folder/three"
    does text readlink "$folder/three"; does chmod chmod 600 "$folder/one"; does touch touch -d @1234567890 "$folder/one"
    does stat stat -c '%a %h %Y' "$folder/one"; does mv mv "$folder/one" "$folder/four"; does full rmdir "$folder"; does rm rm -r "$folder"
}
case_26() { does size stat -c %s "${arg[sizeless]}"; does content read_file "${arg[sizeless]}"; }
case_27() {
    local back=$PWD
    cd "$dir/sub"; saw cd $?; saw PWD "$PWD"; does pwd pwd -P; does below read_file deep/leaf; does child cat deep/leaf
    cd deep/..; saw again $?; cd "$back"; does near read_file "$near/near"
}
case_32() { exec 7< "$dir/file"; does link readlink /proc/$BASHPID/fd/7; does reopened read_file /proc/self/fd/7; does dev read_file /dev/fd/7; exec 7<&-; }
dial() { exec 8<> "/dev/tcp/${arg[host]}/$1"; }
case_33() {
    local text
    if dial "${arg[echo]}"; then
        read -r -t 5 -u 8 text; saw greeting "${text% *}"; echo over >&8; read -r -t 5 -u 8 text; saw echo "$text"; exec 8>&-
    else saw connect failed; fi
}
refused() ( dial "${arg[refused]}" )
unreachable() ( exec 8<> "/dev/tcp/${arg[unreachable]}/9" )
case_35() { does refused refused; does unreachable unreachable; }
case_50() { does getent sh -c "getent ahosts ${arg[known]} | cut -d ' ' -f 1 | sort -u"; does hosts getent hosts "${arg[unknown]}"; }
case_56() { does hosts getent hosts "${arg[in-hosts]}"; does hostname hostname; }
case_60() { does env env -i /bin/cat "$dir/file"; does chain sh -c 'exec env -i /bin/sh -c "exec cat $0"' "$dir/file"; }
case_63() { local said; said=$( (setsid sh -c 'sleep 0.2; cat "$0"' "$dir/file" &) ); saw daemon "$said"; }

for word in "$@"; do
    [[ $word == *=* ]] && continue
    line="{\"case\": $word"
    if declare -F "case_$word" > /dev/null; then "case_$word"; else saw missing "the probe has no such case"; fi
    echo "$line}"
done
