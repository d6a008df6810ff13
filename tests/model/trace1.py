import sys, logging, functools
logging.disable(logging.CRITICAL)
sys.path[:0]=['agent','tests']
from model import eyes, fleet
from model.play import Play
from model.steps import steps, world
def wrap(name):
    old=getattr(eyes.Eyes,name)
    @functools.wraps(old)
    def new(self,*a):
        t=self.clock.time
        try: r=old(self,*a); out=r
        except BaseException as e: out=f"{type(e).__name__} {str(e)[:150]}"; raise
        finally:
            if name=='health' and isinstance(out,tuple): out=[(h.target.id,h.target.port,h.state.value,h.reason) for h in out]
            elif name in('groups_in_vpc','named_groups') and isinstance(out,tuple): out='...'
            elif name=='with_attributes': out='..'
            arg=a[0] if isinstance(a[0],str) else getattr(a[0],'name',a[0])
            more=[str(x) for x in a[1]] if len(a)>1 else ''
            print(f"   {t-1e6:9.2f} {self.ids[0]} {name} {str(arg)[-30:]} {more} -> {out}")
        return r
    setattr(eyes.Eyes,name,new)
for n in('named_groups','groups_in_vpc','with_attributes','health','register','deregister'): wrap(n)
old=fleet.Agent.turn
def turn(self):
    b=self.host.ledger.record().state
    old(self)
    a=self.host.ledger.record()
    if type(a.state)!=type(b): print(f"   {self.truth.clock.time-1e6:9.2f} {self.me} {type(b).__name__} -> {type(a.state).__name__} {a.last.message[:200] if a.last and not a.underway else ''}")
fleet.Agent.turn=turn
seed=int(sys.argv[1]); n=int(sys.argv[2]) if len(sys.argv)>2 else 40
print(world(seed))
p=Play(world(seed)); i=0
for s in steps(seed,n):
    print(f"{p.truth.clock.time-1e6:9.2f} #{i} {s} host {p.agent(s[1]).me}"); i+=1
    p.step(s)
print("CALM"); p.calm()
