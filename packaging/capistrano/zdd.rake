# lib/capistrano/tasks/zdd.rake: drain before the release is switched, rejoin after it is published. The restart of the
# app goes between the two, after "deploy:publishing"; move the hook of a plugin that restarts later (puma:
# deploy:finished). Deploy to one host at a time (docs/deploy-tools.md): Capistrano itself runs each step on all hosts.
namespace :zdd do
  desc "Take this host out of its load balancer; ends when nothing can be sent to it any more"
  task :drain do
    on(roles(:app)) { execute :sudo, "-n", "zdd-agent", "drain" }
  end

  desc "Put this host back into its load balancer; ends when it is healthy there"
  task :rejoin do
    on(roles(:app)) { execute :sudo, "-n", "zdd-agent", "rejoin" }
  end
end

before "deploy:publishing", "zdd:drain"
after "deploy:published", "zdd:rejoin"
