# Read by the learner's interactive bash, see shell.go. It tells the agent which
# commands ended: with builtins alone, so that a prompt forks nothing, and with
# one write for each line, so that lines of several shells do not mix.
#
# PS0, which bash expands before each command, has noted for each one the exit
# status of the one before, the history number after it, and the time.

_berth=1
_berth_last=
_berth_seq=0
: "${_berth_n:=0}"

# Commands are told as they were typed, so the history has to have them all,
# and several lines as several lines.
HISTCONTROL=
HISTIGNORE=
shopt -s cmdhist lithist

# The agent has started bash with a plain PROMPT_COMMAND. Far up in an array it
# survives that the learner sets their own.
if [[ ${PROMPT_COMMAND[0]-} == "$BERTH_PROMPT" ]]; then
	unset 'PROMPT_COMMAND[0]'
	PROMPT_COMMAND[99]=$BERTH_PROMPT
fi

# _berth_read puts the output of a builtin into text.
_berth_read() {
	local HISTTIMEFORMAT=
	if "$@" >|@DIR@/"line.$BERTH_TERMINAL"; then
		IFS= builtin read -rd '' text <@DIR@/"line.$BERTH_TERMINAL"
	else
		text=$("$@") # another user, who may not write there
	fi
}

_berth_prompt() {
	local -
	set +eux
	((_berth_n)) || return 0 # nothing ran: an empty line, or Ctrl-C
	local n=$_berth_n i h last text record now=${EPOCHREALTIME//[!0-9]/}
	_berth_n=0
	_berth_status[n]=$_berth_exit
	_berth_time[n]=$now
	[[ -o history && -p @DIR@/commands ]] || return 0
	for ((i = 0; i < n; i++)); do
		h=${_berth_number[i]}
		# The same number again: the learner has it left out of the history.
		[[ $h == "$_berth_last" && $HISTCONTROL != ignoredups ]] && continue
		_berth_last=$h
		((h > 1)) || continue
		# The last entry of all is hidden from fc, and history gives only the last.
		_berth_read builtin history 1
		text=${text#"${text%%[0-9]*}"}
		last=${text%%[!0-9]*}
		if ((last == h - 1)); then
			text=${text#"$last"}
		else
			_berth_read builtin fc -ln $((h - 1)) $((h - 1))
		fi
		text=${text:2:3072}
		[[ $text ]] || continue
		record=$BERTH_TERMINAL$'\x1e'${_berth_time[i]}$'\x1e'${_berth_time[i + 1]}$'\x1e'${_berth_status[i + 1]}$'\x1e'$PWD$'\x1e'$text
		record=${record//$'\n'/$'\x1f'}
		((_berth_seq++))
		while ((${#record} > 240)); do
			builtin printf '%s\n' "$BASHPID.$_berth_seq"$'\x1e+\x1e'"${record:0:240}"
			record=${record:240}
		done
		builtin printf '%s\n' "$BASHPID.$_berth_seq"$'\x1e.\x1e'"$record"
	done 1<>@DIR@/commands
	return 0
}
