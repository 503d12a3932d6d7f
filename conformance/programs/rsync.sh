# rsync between two local directories: the sender, the receiver and the generator are processes with sockets
# between them.
cd /tmp; mkdir from
cp -a /usr/include /usr/lib/git-core from/; ln -s include from/link; ln from/include/stdio.h from/hard; truncate -s 1M from/sparse; mkfifo from/p
rsync -aHS --stats from/ to/ | grep -E 'Number of (files|created|regular)|Total file size'; diff -r --no-dereference -x p from to && echo same; stat -c '%h %F' to/hard to/link to/p
echo changed >>from/include/stdlib.h; touch -d @0 from/include/string.h; rm -r from/include/linux; mv from/sparse from/renamed
rsync -ai --delete from/ to/ | sort | grep -v 'deleting\|^\.d' | head -n 20; diff -r --no-dereference -x p from to && echo same
rsync -an --delete from/ to/ | wc -l; rsync -ac --checksum from/ to/; rsync -a --link-dest=/tmp/to from/ third/; stat -c %h third/include/stdio.h; rsync -a --exclude='*.h' --prune-empty-dirs from/ fourth/; find fourth -name '*.h' | wc -l; rsync -aW --inplace --append-verify from/hard to/hard; rsync nothing to/ 2>&1 | tail -n 1 | cut -c1-40; rsync -a --files-from=<(printf 'include/stdio.h\nhard\n') from/ fifth/; find fifth | sort; rsync -az --bwlimit=100M -e none from/include/ sixth/; diff -r from/include sixth && echo same
