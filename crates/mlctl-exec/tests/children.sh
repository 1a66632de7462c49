# In the group; a session of its own; forked twice; TERM ignored; without variables; stopped.
sleep 60 & echo $!
setsid sh -c 'echo $$; exec sleep 61' &
(setsid sh -c 'sh -c "echo \$\$; exec sleep 62" & sleep 0.05' &)
setsid sh -c 'trap "" TERM HUP; echo $$; while true; do sleep 1; done' &
env -i sh -c 'echo $$; exec /bin/sleep 63' &
sh -c 'kill -STOP $$' & echo $!
sleep 0.2
