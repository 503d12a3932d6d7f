# stress-ng --verify, one stressor after the other, two processes each: its exit status and what it found
# wrong.
cd /tmp; for s in ${STRESSORS:?}; do timeout -s KILL 60 stress-ng --seed 1 --verify --timeout 4 --$s 2 --$s-ops 20 >out 2>&1; echo "$s $?"; grep -iE ' fail:|verif' out | sed 's/\[[0-9]*\]//' | sort | uniq | head -n 5; done
