# lib/capistrano/tasks/zdd.rake: drain before the release is switched, rejoin when it is published. What restarts the app
# goes between the two, after "deploy:publishing"; plugins that do it later (puma: deploy:finished) have to be moved.
# One host at a time (docs/deploy-tools.md): Capistrano itself takes each step on all hosts at once.
namespace :zdd do
  desc "Out of the load balancer; ends when nothing can be sent to this host any more"
  task :drain do
    on(roles(:app)) { execute :sudo, "-n", "zdd-agent", "drain" }
  end

  desc "Back into it; ends when this host is healthy there"
  task :rejoin do
    on(roles(:app)) { execute :sudo, "-n", "zdd-agent", "rejoin" }
  end
end

before "deploy:publishing", "zdd:drain"
after "deploy:published", "zdd:rejoin"
